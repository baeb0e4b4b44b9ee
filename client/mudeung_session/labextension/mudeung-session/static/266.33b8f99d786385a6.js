"use strict";(self.rspackChunkmudeung_session=self.rspackChunkmudeung_session||[]).push([[266],{646(e,n,t){var r=t(601),o=t.n(r),a=t(314),i=(t.n(a))()(o());i.push([e.id,`.mudeung-Item-button {
  appearance: none;
  background: none;
  border: none;
  color: inherit;
  cursor: pointer;
  font: inherit;
  font-variant-numeric: tabular-nums;
  height: 100%;
  padding: 0 6px;
  white-space: nowrap;
}

.mudeung-Item-button:hover {
  background: var(--jp-layout-color3);
}

.mudeung-Item-button:focus-visible {
  outline: 2px solid currentcolor;
  outline-offset: -2px;
}

.mudeung-mod-soon .mudeung-Item-button {
  font-weight: 700;
  text-decoration: underline;
}

.mudeung-Panel {
  background: var(--jp-layout-color1);
  border: var(--jp-border-width) solid var(--jp-border-color1);
  box-shadow: var(--jp-elevation-z6);
  box-sizing: border-box;
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
  max-width: min(30rem, 96vw);
  overflow-y: auto;
  padding: 12px 16px;
  width: max-content;
}

.mudeung-Panel h2 {
  font-size: var(--jp-ui-font-size2);
  margin: 0 0 8px;
}

.mudeung-Panel dl {
  display: grid;
  gap: 4px 12px;
  grid-template-columns: max-content 1fr;
  margin: 0 0 8px;
}

.mudeung-Panel dl[hidden] {
  display: none;
}

.mudeung-Panel dt {
  color: var(--jp-ui-font-color1);
  font-weight: 600;
}

.mudeung-Panel dd {
  font-variant-numeric: tabular-nums;
  margin: 0;
  overflow-wrap: anywhere;
}

.mudeung-Panel ul {
  margin: 0 0 8px;
  padding-left: 1.2em;
}

.mudeung-Panel p {
  margin: 0 0 12px;
}

.mudeung-Panel-buttons {
  align-items: center;
  display: flex;
  gap: 16px;
}

.mudeung-Panel-buttons a {
  color: var(--jp-content-link-color);
  text-decoration: underline;
}

.mudeung-Panel-extend[aria-disabled='true'] {
  background: var(--jp-layout-color3);
  color: var(--jp-ui-font-color1);
  cursor: not-allowed;
}
`,""]),t.d(n,{},{A:i})},314(e){e.exports=function(e){var n=[];return n.toString=function(){return this.map(function(n){var t="",r=void 0!==n[5];return n[4]&&(t+="@supports (".concat(n[4],") {")),n[2]&&(t+="@media ".concat(n[2]," {")),r&&(t+="@layer".concat(n[5].length>0?" ".concat(n[5]):""," {")),t+=e(n),r&&(t+="}"),n[2]&&(t+="}"),n[4]&&(t+="}"),t}).join("")},n.i=function(e,t,r,o,a){"string"==typeof e&&(e=[[null,e,void 0]]);var i={};if(r)for(var u=0;u<this.length;u++){var c=this[u][0];null!=c&&(i[c]=!0)}for(var s=0;s<e.length;s++){var l=[].concat(e[s]);r&&i[l[0]]||(void 0!==a&&(void 0===l[5]||(l[1]="@layer".concat(l[5].length>0?" ".concat(l[5]):""," {").concat(l[1],"}")),l[5]=a),t&&(l[2]&&(l[1]="@media ".concat(l[2]," {").concat(l[1],"}")),l[2]=t),o&&(l[4]?(l[1]="@supports (".concat(l[4],") {").concat(l[1],"}"),l[4]=o):l[4]="".concat(o)),n.push(l))}},n}},601(e){e.exports=function(e){return e[1]}},665(e,n,t){t.r(n);var r=t(72),o=t.n(r),a=t(825),i=t.n(a),u=t(659),c=t.n(u),s=t(56),l=t.n(s),d=t(540),p=t.n(d),f=t(113),m=t.n(f),v=t(646),g={};g.styleTagTransform=m(),g.setAttributes=l(),g.insert=c().bind(null,"head"),g.domAPI=i(),g.insertStyleElement=p(),o()(v.A,g);let h=v.A&&v.A.locals?v.A.locals:void 0;t.d(n,{},{default:h})},72(e){var n=[];function t(e){for(var t=-1,r=0;r<n.length;r++)if(n[r].identifier===e){t=r;break}return t}function r(e,r){for(var o={},a=[],i=0;i<e.length;i++){var u=e[i],c=r.base?u[0]+r.base:u[0],s=o[c]||0,l="".concat(c," ").concat(s);o[c]=s+1;var d=t(l),p={css:u[1],media:u[2],sourceMap:u[3],supports:u[4],layer:u[5]};if(-1!==d)n[d].references++,n[d].updater(p);else{var f=function(e,n){var t=n.domAPI(n);return t.update(e),function(n){n?(n.css!==e.css||n.media!==e.media||n.sourceMap!==e.sourceMap||n.supports!==e.supports||n.layer!==e.layer)&&t.update(e=n):t.remove()}}(p,r);r.byIndex=i,n.splice(i,0,{identifier:l,updater:f,references:1})}a.push(l)}return a}e.exports=function(e,o){var a=r(e=e||[],o=o||{});return function(e){e=e||[];for(var i=0;i<a.length;i++){var u=t(a[i]);n[u].references--}for(var c=r(e,o),s=0;s<a.length;s++){var l=t(a[s]);0===n[l].references&&(n[l].updater(),n.splice(l,1))}a=c}}},659(e){var n={};e.exports=function(e,t){var r=function(e){if(void 0===n[e]){var t=document.querySelector(e);if(window.HTMLIFrameElement&&t instanceof window.HTMLIFrameElement)try{t=t.contentDocument.head}catch(e){t=null}n[e]=t}return n[e]}(e);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(t)}},540(e){e.exports=function(e){var n=document.createElement("style");return e.setAttributes(n,e.attributes),e.insert(n,e.options),n}},56(e,n,t){e.exports=function(e){var n=t.nc;n&&e.setAttribute("nonce",n)}},825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var n=e.insertStyleElement(e);return{update:function(t){var r,o,a;r="",t.supports&&(r+="@supports (".concat(t.supports,") {")),t.media&&(r+="@media ".concat(t.media," {")),(o=void 0!==t.layer)&&(r+="@layer".concat(t.layer.length>0?" ".concat(t.layer):""," {")),r+=t.css,o&&(r+="}"),t.media&&(r+="}"),t.supports&&(r+="}"),(a=t.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(a))))," */")),e.styleTagTransform(r,n,e.options)},remove:function(){var e;null===(e=n).parentNode||e.parentNode.removeChild(e)}}}},113(e){e.exports=function(e,n){if(n.styleSheet)n.styleSheet.cssText=e;else{for(;n.firstChild;)n.removeChild(n.firstChild);n.appendChild(document.createTextNode(e))}}}}]);